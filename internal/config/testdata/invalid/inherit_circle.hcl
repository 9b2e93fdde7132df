replication "default" {}
launch "default" {}
launch "a" {
  from = launch.b
}
launch "b" {
  from = launch.a
}
