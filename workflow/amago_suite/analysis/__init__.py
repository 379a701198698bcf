"""From finished cells to the numbers of every table: what is read, computed and compared. Nothing is laid out here."""
