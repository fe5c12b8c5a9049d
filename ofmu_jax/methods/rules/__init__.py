"""From two losses to a pure step."""
