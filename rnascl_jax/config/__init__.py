"""What a run is: fields, their bounds, and the objects that they name."""
