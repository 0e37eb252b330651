"""Hugging Face networks that read a text and give numbers: what the components that judge by one share."""
