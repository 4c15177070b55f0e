"""What must hold of a driver before it is trusted, one file a family."""
