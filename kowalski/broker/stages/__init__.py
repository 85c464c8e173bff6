"""What happens to a batch, in order: each stage is a function over the whole batch."""
