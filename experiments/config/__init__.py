"""What a run is: frozen dataclasses, their bounds, and back from JSON."""
