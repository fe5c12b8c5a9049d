"""What is done once: folders that know what they were made from."""
