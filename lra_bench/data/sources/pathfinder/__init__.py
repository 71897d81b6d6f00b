"""Pathfinder: contours grown, drawn and walked along, or read as they were released."""
