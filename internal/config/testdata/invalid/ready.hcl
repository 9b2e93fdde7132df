replication "default" {}

launch "default" {
  ready {
    every = "5m"
  }
}

launch "never" {
  ready {
    every = "never"
  }
}

launch "what" {
  ready {}
}
