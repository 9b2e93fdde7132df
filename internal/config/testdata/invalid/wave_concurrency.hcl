replication "default" {}
launch "default" {}
wave "a" {
  applications = []
  concurrency  = 0
}
