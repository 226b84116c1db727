"""Styles: where in the latent space a way of speaking lies, and what can be done with it."""
