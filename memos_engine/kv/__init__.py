"""`cube.kv`: JSON objects under a namespace and a key, for whoever builds a key-value store on a cube."""
