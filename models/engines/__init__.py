"""What predicts: a compiled model behind one small interface, with a stand-in beside the real ones."""
