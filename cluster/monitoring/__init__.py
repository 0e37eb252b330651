"""What a person looks at while a run goes on: where Prometheus finds its processes, alerts, a dashboard.

    train.py --> targets.py: runs/NAME/monitoring/targets.json, kept up to date while the run lives
    antiphon dashboard --> files.py: prometheus.yml, rules.yaml and a Grafana dashboard beside it

The numbers themselves are made elsewhere: cluster/metrics.py (driver), cluster/ray_meters.py (the others).
"""
