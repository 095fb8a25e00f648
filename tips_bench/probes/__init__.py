"""What is fitted on frozen features."""
