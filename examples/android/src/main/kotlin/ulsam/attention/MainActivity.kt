package ulsam.attention

import android.app.Activity
import android.content.Intent
import android.graphics.Bitmap
import android.graphics.ImageDecoder
import android.net.Uri
import android.os.Bundle
import android.widget.Button
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.TextView
import java.util.concurrent.Executors

/** Picks a picture, classifies it, and shows one map of the attention after the other at each touch. */
class MainActivity : Activity() {
    private val worker = Executors.newSingleThreadExecutor()
    private lateinit var shown: ImageView
    private lateinit var caption: TextView
    private lateinit var told: TextView

    // Of the worker alone.
    private var classifier: Classifier? = null

    // Of the user interface alone.
    private var picture: Picture? = null
    private var result: Result? = null
    private var next = 0

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        shown = ImageView(this)
        shown.adjustViewBounds = true
        shown.setOnClickListener { showNext() }
        caption = TextView(this)
        told = TextView(this)
        val pick = Button(this)
        pick.text = "Pick a picture"
        pick.setOnClickListener {
            val wanted = Intent(Intent.ACTION_GET_CONTENT).setType("image/*")
            startActivityForResult(Intent.createChooser(wanted, null), PICTURE)
        }
        val column = LinearLayout(this)
        column.orientation = LinearLayout.VERTICAL
        column.fitsSystemWindows = true
        for (view in listOf(pick, shown, caption, told)) column.addView(view)
        setContentView(column)
    }

    override fun onActivityResult(request: Int, status: Int, data: Intent?) {
        super.onActivityResult(request, status, data)
        val uri = data?.data ?: return
        told.text = "…"
        worker.execute {
            try {
                val known = classifier ?: Classifier(assets, MODEL).also { classifier = it }
                val read = read(uri)
                val found = known.classify(read)
                val (_, height, width, _) = known.file.image.shape
                val times = maxOf(1, SHOWN / maxOf(height, width))
                val seen = read.shown(times * height, times * width)
                val lines = found.answers.map { "${"%.1f".format(100 * it.share)} %  ${it.label}" }
                runOnUiThread {
                    picture = seen
                    result = found
                    next = 0
                    told.text = (lines + known.runs).joinToString("\n")
                    showNext()
                }
            } catch (error: Exception) {
                runOnUiThread { told.text = error.message }
            }
        }
    }

    /** The map of the next group of the next layer; without attention the picture. */
    private fun showNext() {
        val seen = picture ?: return
        val maps = result!!.attention.flatMap { site -> (0 until site.groups).map { site to it } }
        if (maps.isEmpty()) return show(seen)
        val (site, group) = maps[next++ % maps.size]
        show(site.over(seen, group))
        val span = "%.2g to %.2g times uniform".format(site.lowest, site.highest)
        caption.text = "${site.layer}, group ${group + 1} of ${site.groups}: $span"
    }

    private fun show(seen: Picture) = shown.setImageBitmap(
        Bitmap.createBitmap(seen.pixels, seen.width, seen.height, Bitmap.Config.ARGB_8888)
    )

    /** Turned as EXIF says; of large pictures fewer pixels, still more than the model takes. */
    private fun read(uri: Uri): Picture {
        val source = ImageDecoder.createSource(contentResolver, uri)
        val bitmap = ImageDecoder.decodeBitmap(source) { decoder, info, _ ->
            decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE // whose pixels can be read
            decoder.setTargetSampleSize(maxOf(1, minOf(info.size.width, info.size.height) / ENOUGH))
        }
        val pixels = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        return Picture(bitmap.width, bitmap.height, pixels)
    }

    override fun onDestroy() {
        super.onDestroy()
        worker.execute { classifier?.close() }
        worker.shutdown()
    }

    private companion object {
        const val MODEL = "model.tflite"
        const val PICTURE = 1
        const val SHOWN = 720
        const val ENOUGH = 1024
    }
}
