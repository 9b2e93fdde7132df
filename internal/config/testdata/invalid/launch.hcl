replication "default" {}

launch "a" {
  from = launch.b
}

launch "b" {
  from = launch.a
}

launch "default" {
  from           = launch.base
  private_ip     = "10.0.0.7"
  tenancy        = "shared"
  http_hop_limit = 0
  disposition    = "paused"
  volume_type    = "sc1"

  luks_passphrase_file = "vault.key"
  instance_profile     = "arn:aws:iam::123456789012:role/web"

  disk "sdb" {}
  disk "/dev/sdb" {
    volume_type = "st1"
    iops        = 4000
    throughput  = 250
  }
  disk "/dev/sdc" {
    volume_type = "io2"
  }
}
