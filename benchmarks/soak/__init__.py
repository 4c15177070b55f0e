"""``make soak``: mixed load and faults for minutes; what a process holds must not grow."""
