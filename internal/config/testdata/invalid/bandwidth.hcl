replication "default" {
  freeze_attempts = 0
  concurrency     = -1

  points {
    every = "5s"
    keep  = "six"
    retain = ["10m for 1h", "1h until tomorrow"]
  }

  bandwidth {
    server = "50 Mbps"
    site   = "1 kbit/s"

    window {
      days   = ["mon", "Montag"]
      from   = "8 am"
      to     = "18:00"
      zone   = "Europe/Wien"
      server = 7
    }

    window {
      from = "08:00"
      to   = "08:00"
    }
  }
}
