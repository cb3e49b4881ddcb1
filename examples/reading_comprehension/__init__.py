"""Extractive question answering (SQuAD), with the Wikipedia entities that question and passage mention as additional inputs."""
