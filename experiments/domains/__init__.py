"""Language and images: what each gives the pipeline."""
