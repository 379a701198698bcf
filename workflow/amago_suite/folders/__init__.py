"""The results folder and a cell's: how files are written, who owns them, what is made ready, freed and followed."""
