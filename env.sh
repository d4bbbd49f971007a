export PYTHONPATH=/tmp/lead/wt:/tmp/lead/wt/shared/src:$(ls -d /tmp/lead/wt/services/*/src | tr '\n' ':')
