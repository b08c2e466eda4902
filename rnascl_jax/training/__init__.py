"""From a batch of images to the next state: the steps and their loop."""
