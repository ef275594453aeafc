"""Small copies of pictures: rendered by confined processes, kept by content in a folder with a size limit."""
