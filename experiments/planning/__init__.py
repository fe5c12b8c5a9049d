"""What one update takes, from the compiler."""
