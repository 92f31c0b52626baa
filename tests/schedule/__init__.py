"""Tests of what happens later: policy, queue and worker."""
