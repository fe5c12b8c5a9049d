"""One decoder-only Flax module for the Llama family."""
