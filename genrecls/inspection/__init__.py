"""Tests of what a prediction depends on: robustness and saliency."""
