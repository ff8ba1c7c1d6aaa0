"""Reading what a user wrote: folders of handlers and definition files."""
