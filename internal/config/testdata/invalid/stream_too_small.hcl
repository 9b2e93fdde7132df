replication "default" {
  window      = "256MiB"
  stream_size = "128MiB"
}

replication "slow" {
  window        = "512KiB"
  freeze_budget = "3s"
}
