"""Evaluation harness for federated, LLM-enhanced sequential recommenders."""
