"""A tiny model of arithmetic, served over HTTP: the thing this repository deploys, asks and scores."""
