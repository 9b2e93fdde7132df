replication "default" {
  instancetype = "t3.small"
  windw        = "1MiB"
}

lauch "web" {
}
