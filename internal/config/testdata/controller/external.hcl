bus {
  servers = ["tls://bus:4222"]
}

cloud {
  region = "eu-central-1"
}

replica_bus {
  servers = []
}
