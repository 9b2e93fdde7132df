server     = "web-1"
disks      = ["/dev/sda"]
free_space = "zero"
tracker    = "ebpf"
cpus       = -1

bus {
  servers = ["tls://bus:4222"]
  ca_file = "/etc/rehost/ca.pem"
}

verify {
  every     = "100d"
  bandwidth = "fast"
}
