server    = "Web 1"
disks     = []
state_dir = "state"
window    = "1GB"

bus {
  servers = ["nats://bus:4222"]
  ca_file = "ca.pem"
}

hooks {
  fence   = ["systemctl", "stop", "apache2"]
  timeout = "1 minute"
}

freeze {
  budget = "1s"
  cap    = "500ms"
}

log {
  level  = "verbose"
  format = "xml"
}
