"""What a user of the engine needs to test with it: conformance suites and fakes."""
