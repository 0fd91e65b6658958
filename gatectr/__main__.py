"""Entry point of `python -m gatectr`, and of torchrun: `torchrun --nproc-per-node 2 -m gatectr rank ...`."""

from gatectr.command import main

if __name__ == "__main__":
    main()
