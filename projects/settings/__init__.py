"""The settings of each project, as small as its documentation allows."""
