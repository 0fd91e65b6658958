"""Speed and memory, each as a ratio measured side by side."""
