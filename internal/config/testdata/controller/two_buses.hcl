data_dir = "data"

bus {
  embedded {}
  servers = ["tls://bus:4222"]
}

cloud {}
