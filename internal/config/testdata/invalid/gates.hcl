wave "a" {
  applications = []

  gates {
    lag       = "1ms"
    verified  = "7 days"
    tested    = "5s"
    rehearsed = "3 days"
    preflight = "cleen"
    quota     = "enuogh"

    window {
      on     = "2026-12-24"
      from   = "22:00"
      to     = "22:00"
      zone   = "CEST/Vienna"
      except = ["2026-12-24"]
    }

    window {
      on   = "24.12.2026"
      days = ["sat"]
      from = "24:00"
      to   = "04:00"
    }

    window {
      from   = "22:00"
      to     = "04:00"
      zone   = "UTC"
      except = ["2026-02-30"]
    }
  }
}
