"""Identity from elsewhere: workloads with tokens of Kubernetes or of an OIDC provider, let in by an auth callout."""
