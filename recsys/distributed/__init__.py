"""Where embedding tables live, and how they are updated."""
