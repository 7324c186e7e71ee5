module github.com/dssauth/dssauth/rediscache

go 1.26.0

require (
	github.com/dssauth/dssauth v0.0.0
	github.com/redis/rueidis v1.0.79
)

require (
	github.com/go-json-experiment/json v1.27.2 // indirect
	github.com/hashicorp/golang-lru/v2 v2.0.7 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/sys v0.47.0 // indirect
)

replace github.com/dssauth/dssauth => ../

require (
	github.com/stretchr/testify v1.12.1
	go.uber.org/goleak v1.3.0
)
