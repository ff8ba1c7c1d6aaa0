"""`wsgateway connections`: list, count, post to and close the connections of all nodes."""
