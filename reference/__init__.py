"""The site of the documents (`make docs`): the pages of docs/, reference pages made from the source, the tutorial."""
