// uPlot with its styles, which are loaded when the first chart is shown.
import uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'

export default uPlot
