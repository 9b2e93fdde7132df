replication "default" {}
launch "default" {}
launch "db" {
  disk "/dev/sdb" {
    volume_type = "io2"
  }
}
