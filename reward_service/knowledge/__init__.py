"""What a knowledge graph says about a text: the graph, its files, and how claims are found in words.

For the component `knowledge_graph`. Knows nothing of samples, scores or weights.
"""
