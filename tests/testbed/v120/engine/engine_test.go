package engine

import (
	"testing"

	"cpg.test/common/vectors"
)

func TestVectors(t *testing.T) { vectors.Run(t, &Engine{}, "1.20") }

func TestValidate(t *testing.T) { vectors.RunValidate(t, "1.20") }
