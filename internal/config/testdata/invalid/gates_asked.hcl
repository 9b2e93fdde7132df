wave "a" {
  applications = []

  gates {
    approval "change-manager" {
      count     = 0
      four_eyes = "yes"
      valid     = "5s"
    }

    approval "change-manager" {}

    approval "Security Officer" {}

    command "ticket" {
      argv    = ["/bin/sh", "-c", "true"]
      timeout = "1h"
    }

    command "ticket" {
      argv = []
    }

    command "shell" {
      argv = ["ticket-is-open CHG-4711"]
    }

    command "nothing" {}

    http "change" {
      url      = "changes.example.com"
      status   = 42
      contains = 7
    }

    http "secret" {
      url     = "https://ada:secret@changes.example.com/"
      timeout = "30s"
    }

    http "file" {
      url = "file:///etc/passwd"
    }

    ask "somebody" {}
  }
}
