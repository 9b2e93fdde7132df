replication "fast" {
  volume_type = "st1"

  volumes {
    iops                     = 6000
    throughput_mibs          = 500
    initialization_rate_mibs = 50
  }
}

replication "chosen" {
  volume_type = "auto"

  volumes {
    iops = 4000
  }
}
