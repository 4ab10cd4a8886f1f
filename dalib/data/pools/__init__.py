"""Public pools: collections of photographs, or of images with depth, that are made of files of
public repositories. The facts about them are tables in this project, the pictures are not."""
